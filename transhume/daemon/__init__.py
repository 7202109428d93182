"""The daemon: where the stages meet. Senses write to the knowledge, rounds read it, plans are carried out."""
