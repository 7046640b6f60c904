"""Values from the sockets, checked and put into the library's terms: AUDIO, CONDITIONING, tokens, melodies.

Each refusal is one ValueError with the value, the values that are allowed and the remedy. No value from a
socket is ever written to: ComfyUI caches and shares it.
"""
