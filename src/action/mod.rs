//! Other people's commands: rendered, run in order, with a deadline.
