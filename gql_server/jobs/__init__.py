"""Long tasks: the queue, the event log, the supervisor and the executors."""
