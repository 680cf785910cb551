//! Commands of actions, side by side with the real Fail2Ban: what they are told, in which order.

mod families;
mod hostile;
mod mail;
mod mapping;
mod python;
mod recorder;
mod tags;
