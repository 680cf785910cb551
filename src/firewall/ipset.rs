//! Bans by ipset.

use super::{Error, Firewall};

/// The backend.
pub enum Ipset {}

impl Ipset {
    /// Opens.
    ///
    /// # Errors
    /// Until it is written, always.
    pub fn open() -> Result<Box<dyn Firewall>, Error> {
        Err(Error::UnknownKind("ipset".to_owned()))
    }
}
