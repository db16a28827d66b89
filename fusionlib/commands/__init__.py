"""The commands of `python -m fusionlib`: each adds its parser, and imports what it needs when it is called."""
