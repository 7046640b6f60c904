"""The only folder that touches ComfyUI: its folders, its memory management, its progress and interruption.

The rest of the pack talks to the host through its three modules.
"""
