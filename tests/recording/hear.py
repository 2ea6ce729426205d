"""hear.py FOLDER MODEL WAV: has whisper.cpp hear a second of speech, and says how it went."""

from __future__ import annotations

import sys
import wave
from importlib import import_module

import numpy as np

folder, model, speech = sys.argv[1:]
sys.path.insert(0, folder)
whisper = import_module("_pywhispercpp")
with wave.open(speech) as file:
    heard = np.frombuffer(file.readframes(file.getframerate()), np.int16).astype(np.float32) / 32768
context = whisper.whisper_init_from_file_with_params(
    model, whisper.whisper_context_default_params()
)
how = whisper.whisper_full_default_params(whisper.whisper_sampling_strategy.WHISPER_SAMPLING_GREEDY)
how.n_threads, how.max_tokens, how.single_segment, how.temperature_inc = 2, 4, True, 0
how.print_progress = False
failed = whisper.whisper_full(context, how, heard, len(heard))
# A model without weights has nothing to say: two tokens more, after the prompt of three.
for position in (3, 4):
    failed = failed or whisper.whisper_decode(context, 0, 1, position, how.n_threads)
whisper.whisper_print_timings(context)
print(failed)
