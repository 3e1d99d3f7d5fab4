"""One thin script per DVC stage: read parameters, call the library, write and log the metrics."""
