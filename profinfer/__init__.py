"""ProfInfer: a fine-grained, non-intrusive profiler for LLM inference on ggml engines."""

__version__ = "0.1.0"
