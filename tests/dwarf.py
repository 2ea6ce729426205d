"""What an engine's debug information says of its structs: an independent witness."""

from __future__ import annotations

from pathlib import Path

from elftools.elf.elffile import ELFFile


def members(path: Path, struct: str) -> dict[str, int]:
    """Offsets of a struct's members by name, and the struct's size by ""."""
    with path.open("rb") as stream:
        for unit in ELFFile(stream).get_dwarf_info().iter_CUs():
            source = unit.get_top_DIE().attributes.get("DW_AT_name")
            # An engine's other sources are many.
            if source is None or not any(word in source.value for word in (b"ggml", b"llama")):
                continue
            for die in unit.iter_DIEs():
                facts = die.attributes
                if die.tag != "DW_TAG_structure_type" or "DW_AT_byte_size" not in facts:
                    continue
                if "DW_AT_name" in facts and facts["DW_AT_name"].value == struct.encode():
                    children = [child.attributes for child in die.iter_children()]
                    found: dict[str, int] = {
                        child["DW_AT_name"].value.decode(): child[
                            "DW_AT_data_member_location"
                        ].value
                        for child in children
                        if "DW_AT_data_member_location" in child
                    }
                    return {**found, "": facts["DW_AT_byte_size"].value}
    raise AssertionError(f"no struct {struct} in {path}")
