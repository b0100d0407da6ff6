"""The machine under a run: files, paths, memory, processors, processes; knows nothing of learning."""
