//! What `fail2ban-client` prints for a command and its answer.
