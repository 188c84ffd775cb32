//! Recorded files: writing, sealing, keeping within the budget, making whole what a crash left.
//! In: batches of encoded packets. Out: sealed segments with their sidecars.

mod books;
mod budget;
mod described;
mod disk;
mod keeper;
mod ledger;
mod pinned;
mod recording;
mod recovery;
mod seal;
mod thread;
mod writer;

pub use budget::{Budget, Eviction, Room};
pub use keeper::{Shared, Task, start as start_keeper};
pub use ledger::{Ledger, chain_hash};
pub use recording::Recording;
pub use recovery::{DAMAGED, Found, RecoveryError, bucket_of, recover, reseal};
pub use seal::{Sealed, put_in_place};
pub use thread::{SealRequest, State, WriterThread};
pub use writer::{Compression, Writer, hex};
