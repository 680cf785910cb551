//! Bans by nftables.

use super::{Error, Firewall};

/// How to open.
#[derive(Clone, Debug, Default)]
pub struct Options {}

/// The backend.
pub enum Nftables {}

impl Nftables {
    /// Opens.
    ///
    /// # Errors
    /// Until it is written, always.
    pub fn open(_: Options) -> Result<Box<dyn Firewall>, Error> {
        Err(Error::UnknownKind("nftables".to_owned()))
    }
}
