"""The machine under a run: files, paths, arrays, memory, processors, processes, versions; knows nothing of learning."""
