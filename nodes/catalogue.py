"""The node that reads a catalogue: one list entry for each piece, so that the graph behind it runs once for each."""

from __future__ import annotations

from comfy_api.latest import io

from .host import folders, progress
from .host.telling import Node
from .inputs.widgets import duration_input
from .sockets import CATEGORY

NO_CATALOGUE = "no CSV or JSONL file in the input folder"


class MusicGenCatalogue(Node):
    """A catalogue file -> lists of descriptions, durations, seeds and names."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MusicGenCatalogue",
            display_name="MusicGen Catalogue",
            category=CATEGORY,
            description="Reads a catalogue, a CSV or JSONL file with one row for each piece. Its outputs are lists: "
            "the nodes behind it run once for each piece.",
            search_aliases=["batch", "csv", "jsonl", "prompts from file", "many prompts", "spreadsheet"],
            inputs=[
                io.Combo.Input(
                    "catalogue",
                    options=list(folders.catalogues()) or [NO_CATALOGUE],
                    tooltip="A CSV or JSONL file in ComfyUI's input folder, with columns such as id, description, "
                    "duration, seed, seeds and negative. Press R after adding one.",
                ),
                duration_input("Length in seconds of the pieces whose row has no duration."),
                io.Int.Input(
                    "first",
                    display_name="first piece",
                    default=1,
                    min=1,
                    max=10_000_000,
                    tooltip="Number of the first piece to make, to go on with a long catalogue.",
                ),
                io.Int.Input(
                    "count",
                    display_name="pieces (count)",
                    default=0,
                    min=0,
                    max=10_000_000,
                    tooltip="Number of pieces to make. 0 makes all from the first one on.",
                ),
            ],
            outputs=[
                io.String.Output(
                    "description",
                    display_name="description",
                    is_output_list=True,
                    tooltip="The text of each piece, for text of MusicGen Text Encode.",
                ),
                io.String.Output(
                    "negative",
                    display_name="negative",
                    is_output_list=True,
                    tooltip="The text to guide away from, for a second MusicGen Text Encode; empty for none.",
                ),
                io.Float.Output(
                    "duration",
                    display_name="duration",
                    is_output_list=True,
                    tooltip="Seconds of each piece, for duration of MusicGen Sample Tokens.",
                ),
                io.Int.Output(
                    "seed",
                    display_name="seed",
                    is_output_list=True,
                    tooltip="The seed of each piece, for seed of MusicGen Sample Tokens.",
                ),
                io.String.Output(
                    "name",
                    display_name="name",
                    is_output_list=True,
                    tooltip="The catalogue's name and the piece's id, such as catalogue/menu, for filename_prefix of "
                    "Save Audio.",
                ),
                io.String.Output(
                    "columns",
                    display_name="columns",
                    is_output_list=True,
                    tooltip="The row's other columns as JSON.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, catalogue: str | None) -> bool | str:
        """Explain every refusal in a sentence."""
        try:
            if catalogue is not None:
                folders.resolve_catalogue(catalogue)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, catalogue: str, **_: object) -> str:
        """Read again when the file changed."""
        return folders.catalogue_fingerprint(catalogue)

    @classmethod
    def execute(cls, catalogue: str, duration: float, first: int, count: int) -> io.NodeOutput:
        from ..musicgen.rendering.rows import read_pieces  # a package that the other nodes do without

        pieces = read_pieces(folders.resolve_catalogue(catalogue), duration)
        chosen = pieces[first - 1 : first - 1 + count if count else None]
        if not chosen:
            raise ValueError(
                f"first piece is {first}; the catalogue {catalogue} has {len(pieces)}, so allowed are these."
            )
        progress.show(cls.hidden.unique_id, f"{len(chosen)} of {len(pieces)} pieces")
        return io.NodeOutput(*(list(column) for column in zip(*chosen, strict=True)))
