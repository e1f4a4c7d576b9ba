"""Tasks with their scripted experts."""

from sim2real.tasks.base import Scene, Task, load_task, task_names

__all__ = ["Scene", "Task", "load_task", "task_names"]
