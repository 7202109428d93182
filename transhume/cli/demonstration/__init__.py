"""The demonstration: a stage (simulated clouds, or the lab's) and a narrator who only reads the knowledge."""
