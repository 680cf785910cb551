//! Held against the real Fail2Ban and the real Python, which the set-up step installs.

mod check;
mod corpus;
mod dates;
mod dump;
mod expected;
mod grow;
mod hostile;
mod ignore;
mod journal;
mod python;
mod record;
mod regex;
mod regex_report;
mod samples;
mod scan;
mod stock;
mod stock_regexes;
mod trees;
