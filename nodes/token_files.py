"""The nodes that save tokens as small files, and open them again."""

from __future__ import annotations

from comfy_api.latest import io

from .host import folders, metadata, progress
from .host.telling import Node
from .inputs.token_files import loaded_tokens, save_tokens
from .sockets import CATEGORY, CodecHandle, CodecSocket, Tokens, TokensSocket

NO_TOKENS = "no tokens in input or output/tokens"


class MusicGenSaveTokens(Node):
    """Tokens -> a file of a few kB."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MusicGenSaveTokens",
            display_name="MusicGen Save Tokens",
            category=CATEGORY,
            description="Saves tokens exactly, as a .safetensors file of a few kB, with the recipe of the piece: "
            "model, LoRAs, description, seed, pattern and numbers. The workflow is saved too, so that the file "
            "can be dropped onto ComfyUI.",
            search_aliases=["export tokens", "save codes", "store piece", "recipe"],
            inputs=[
                TokensSocket.Input("tokens", tooltip="Tokens from MusicGen Sample Tokens or MusicGen EnCodec Encode."),
                io.String.Input(
                    "filename_prefix",
                    display_name="file name (filename_prefix)",
                    default="tokens/MusicGen",
                    tooltip="Path and name of the file inside ComfyUI's output folder. A number is added, and no file "
                    "is overwritten. Press R, and MusicGen Load Tokens lists the files in output/tokens.",
                ),
            ],
            outputs=[],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, tokens: Tokens, filename_prefix: str) -> io.NodeOutput:
        target = folders.new_tokens(filename_prefix)
        path = save_tokens(tokens, target, metadata.workflow_of(cls.hidden))
        progress.show(cls.hidden.unique_id, f"saved {path.name}, {path.stat().st_size / 1000:.1f} kB")
        return io.NodeOutput()


class MusicGenLoadTokens(Node):
    """A file -> tokens."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MusicGenLoadTokens",
            display_name="MusicGen Load Tokens",
            category=CATEGORY,
            description="Opens tokens that MusicGen Save Tokens saved, to decode or to continue them.",
            search_aliases=["import tokens", "open tokens", "load codes", "recipe"],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=list(folders.token_files()) or [NO_TOKENS],
                    tooltip="A file of tokens in ComfyUI's input folder or in output/tokens. Press R after adding one.",
                ),
                CodecSocket.Input(
                    "codec",
                    optional=True,
                    tooltip="The codec that will decode the tokens. With it, a file of another codec is refused here.",
                ),
            ],
            outputs=[
                TokensSocket.Output(
                    "tokens",
                    display_name="tokens",
                    tooltip="The tokens, for MusicGen EnCodec Decode or for prompt of MusicGen Sample Tokens.",
                ),
                io.String.Output(
                    "recipe",
                    display_name="recipe",
                    tooltip="How the tokens were made, as text. Core's Preview Any shows it.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, file: str | None) -> bool | str:
        """Explain every refusal in a sentence."""
        try:
            if file is not None:
                folders.resolve_tokens(file)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, file: str, **_: object) -> str:
        """Read again when the file changed."""
        return folders.tokens_fingerprint(file)

    @classmethod
    def execute(cls, file: str, codec: CodecHandle | None = None) -> io.NodeOutput:
        tokens, recipe = loaded_tokens(folders.resolve_tokens(file)[1], codec)
        progress.show(cls.hidden.unique_id, f"{tokens['model']}, {tokens['codes'].shape[2] / tokens['frame_rate']:g} s")
        return io.NodeOutput(tokens, recipe)
