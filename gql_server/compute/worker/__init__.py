"""The worker process: its channel, its queue of tasks, and how it shares the machine."""
