//! All filters of one log over a block of lines at once.
