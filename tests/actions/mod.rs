//! Commands of actions, side by side with the real Fail2Ban: what they are told, in which order.

mod hostile;
mod mapping;
mod recorder;
mod tags;
