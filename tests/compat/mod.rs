//! Held against the real Fail2Ban and the real Python, which the set-up step installs.

mod check;
mod dates;
mod dump;
mod regex;
mod samples;
mod stock;
mod trees;
