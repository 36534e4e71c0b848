//! What a store has to be that several gateways share: values under keys, of which each can be replaced only by
//! whoever knows it as it is.
//!
//! A trait, so that the service names no backend; and no more than this, so that a backend knows nothing of keys,
//! claims and answers. Its futures are boxed: one is made for an execution, not for every request.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;

use super::key::Digest;

/// A store of values with revisions.
pub trait Bucket: fmt::Debug + Send + Sync + 'static {
    /// The value of a key, and its revision.
    fn get(&self, key: Digest) -> Work<'_, Option<Stored>>;

    /// Puts a value in the place of the one with revision `after`, or where there is none if that is 0. Changes
    /// nothing if the key is in another state.
    fn put(&self, key: Digest, value: Bytes, after: u64) -> Work<'_, Put>;

    /// The most bytes that a value may have now.
    fn value_bytes_max(&self) -> usize;
}

/// What a store is doing.
pub type Work<'a, T> = Pin<Box<dyn Future<Output = Result<T, Trouble>> + Send + 'a>>;

/// A value that was found.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The value; empty if somebody deleted it, who left the revision.
    pub value: Bytes,
    /// Its revision, above 0.
    pub revision: u64,
}

/// How putting a value ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is there, with this revision.
    Done(u64),
    /// The key was in another state.
    Changed,
}

/// The store did not do it, or nobody knows whether it did.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Trouble(pub String);
