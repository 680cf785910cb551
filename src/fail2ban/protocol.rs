//! Framing of the control socket.
