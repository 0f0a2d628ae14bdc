//! The locks of live_stream, taken beside the rows of sessions and people, and for what is done by one at a time.
//!
//! They are PostgreSQL's advisory locks, with classes that no SQL function can name: nobody
//! stalls a session, the worker or an installation from outside. What the worker keeps beyond a
//! transaction can be lost to `pg_advisory_unlock_all()` in a trigger of the app's; so it looks.
//!
//! | lock | held by | to |
//! | --- | --- | --- |
//! | turn | who updates the session's row at once; the worker, while the session is hot | make the others append |
//! | flow | appenders, shared; who ends the session or counts its places, alone | wait for all appenders, and hold back new ones |
//! | person | who counts that user, or one of the same slot, or closes it out | count a person once; let nobody join meanwhile |
//! | writer | who writes in the chat as that user | count its messages one after the other |
//! | worker | the worker of the database | be the only one |
//! | start | who starts the worker, alone; who waits for that, shared | start one |
//! | part | who decides on the part of that user, or one of the same slot, alone | have nobody moderator and banned |
//! | parts | who writes bans or moderators of an influencer | have several of one statement not meet those of another |
//! | on air | who takes an influencer's session live | name the other one that is |
//! | schedules | who makes the sessions of schedules | make each once |
//! | install | install() | be the only one |
//!
//! # The one order
//!
//! Whoever takes several of these, and locks of rows beside them, takes them in this order, and
//! within each line from the lowest id or slot up:
//!
//! 1. writer, schedules, parts: while nothing else is held
//! 2. the influencer's row, and then the session's, kept from being deleted (`keep.rs`)
//! 3. rows that a client's statement writes, which PostgreSQL locks before a trigger sees them:
//!    bans, moderators, guests, invitations, schedules, messages, reactions and orders; and then
//!    products, which orders lead to
//! 4. part
//! 5. the session's row (turn is tried, never waited for), and then its flow
//! 6. person
//! 7. viewers, and what is counted last: heartbeats, and the tallies of messages
//!
//! Two have it otherwise, and others give way to them:
//!
//! - A statement that deletes a session has its row, and wants all else after it. So whoever
//!   writes what refers to a session keeps it first. Who has rows of line 3 already waits for no
//!   session that is deleted: the change is appended, the moderation log and schedules leave the
//!   session out. Orders and products are locked before the viewers go.
//! - The end of a session has its row, and wants its flow and its viewers. So whoever has the flow
//!   does not wait for the row, and who has a viewer's row waits for neither: a person's statement
//!   enters the unfinished sessions of its rows before it has those, and no others. A server's own
//!   UPDATE of viewers cannot know them before; it may be told 40P01, as the end beside it may.
//!
//! Who finds only with everything held that one session more is needed, and one before the others,
//! gives them all back and begins anew: `pg::subtransaction` does that.

use pgrx::Uuid;
use pgrx::pg_sys;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    Turn(Uuid),
    Flow(Uuid),
    Person(u64),
    Writer(Uuid),
    Worker,
    Start,
    Part(u64),
    Parts(Uuid),
    OnAir(Uuid),
    Schedules,
    Install,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Shared = pg_sys::ShareLock as isize,
    Alone = pg_sys::ExclusiveLock as isize,
}

/// First class of ours; PostgreSQL's functions use 1 and 2.
const CLASS: u16 = 0x4c53;
pub const FLOW_CLASS: u16 = CLASS + 1;
pub const WORKER_CLASS: u16 = CLASS + 4;

impl Lock {
    fn tag(self) -> pg_sys::LOCKTAG {
        let (class, key) = match self {
            Self::Turn(session) => (CLASS, fold(session)),
            Self::Flow(session) => (FLOW_CLASS, fold(session)),
            Self::Person(slot) => (CLASS + 3, slot),
            Self::Writer(user) => (CLASS + 6, fold(user)),
            Self::Worker => (WORKER_CLASS, 0),
            Self::Start => (CLASS + 5, 0),
            Self::Part(slot) => (CLASS + 7, slot),
            Self::OnAir(influencer) => (CLASS + 8, fold(influencer)),
            Self::Schedules => (CLASS + 9, 0),
            Self::Install => (CLASS + 10, 0),
            Self::Parts(influencer) => (CLASS + 11, fold(influencer)),
        };
        pg_sys::LOCKTAG {
            // SAFETY: a plain read of this backend's state.
            locktag_field1: unsafe { pg_sys::MyDatabaseId }.to_u32(),
            locktag_field2: (key >> 32) as u32,
            locktag_field3: key as u32,
            locktag_field4: class,
            locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
            locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
        }
    }

    fn acquire(self, mode: Mode, session_level: bool, dont_wait: bool) -> bool {
        let tag = self.tag();
        let _owner = OwnedByTransaction::begin();
        // SAFETY: a lock of ours; an error on the way (cancel, deadlock) leaves it not held.
        let outcome = unsafe { pg_sys::LockAcquire(&tag, mode as i32, session_level, dont_wait) };
        outcome != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
    }

    /// Waits for the lock, which the transaction holds to its end.
    pub fn wait(self, mode: Mode) {
        self.acquire(mode, false, false);
    }

    /// Takes the lock for the transaction, if it is free.
    pub fn try_now(self, mode: Mode) -> bool {
        self.acquire(mode, false, true)
    }

    /// Takes the lock for this backend, beyond the transaction, if it is free.
    pub fn try_keep(self, mode: Mode) -> bool {
        self.acquire(mode, true, true)
    }

    /// Waits for the lock, and keeps it for this backend.
    pub fn keep(self, mode: Mode) {
        self.acquire(mode, true, false);
    }

    /// Gives back a lock that this transaction has taken.
    pub fn give_back(self, mode: Mode) {
        let tag = self.tag();
        let _owner = OwnedByTransaction::begin();
        // SAFETY: a lock of ours; one that is not held gives a warning.
        unsafe { pg_sys::LockRelease(&tag, mode as i32, false) };
    }

    /// Gives back a lock that this backend has kept.
    pub fn let_go(self, mode: Mode) {
        if self.still_keeps(mode) {
            self.release_kept(mode);
        }
    }

    /// Whether this backend keeps a lock that it has kept; takes it again where it is lost and free.
    /// All that a backend keeps is lost by `pg_advisory_unlock_all()`, which any trigger of an
    /// app's may call in it.
    pub fn still_keeps(self, mode: Mode) -> bool {
        let tag = self.tag();
        // SAFETY: a lock of ours, which is not waited for.
        match unsafe { pg_sys::LockAcquire(&tag, mode as i32, true, true) } {
            pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL => false,
            pg_sys::LockAcquireResult::LOCKACQUIRE_OK => true,
            _ => {
                // Held once more than before.
                self.release_kept(mode);
                true
            }
        }
    }

    fn release_kept(self, mode: Mode) {
        let tag = self.tag();
        // SAFETY: a lock of ours, which this backend keeps.
        unsafe { pg_sys::LockRelease(&tag, mode as i32, true) };
    }

    /// Whether somebody else holds the lock alone.
    pub fn is_taken(self) -> bool {
        let free = self.try_now(Mode::Shared);
        if free {
            self.give_back(Mode::Shared);
        }
        !free
    }
}

/// While it lives, locks are taken for the transaction, or the innermost subtransaction, and given
/// back to it: not for the statement, whose locks go to the transaction as it ends, and could no
/// longer be given back.
struct OwnedByTransaction(pg_sys::ResourceOwner);

impl OwnedByTransaction {
    fn begin() -> Self {
        // SAFETY: both are owners of this backend's, or null outside of transactions.
        unsafe {
            let before = pg_sys::CurrentResourceOwner;
            pg_sys::CurrentResourceOwner = pg_sys::CurTransactionResourceOwner;
            Self(before)
        }
    }
}

impl Drop for OwnedByTransaction {
    fn drop(&mut self) {
        // SAFETY: what it was; an error that ends the transaction sets it anew.
        unsafe { pg_sys::CurrentResourceOwner = self.0 };
    }
}

/// Class of the advisory lock that the background worker holds, as `pg_locks.objsubid` has it.
#[pgrx::pg_extern(immutable, parallel_safe)]
fn worker_lock_class() -> i32 {
    WORKER_CLASS.into()
}

/// All users share so many locks, so that a statement on very many does not need more
/// than the server has room for.
const PERSON_SLOTS: u64 = 2_048;

/// The slot of a user's lock.
pub fn person_slot(user: Uuid) -> u64 {
    fold(user) % PERSON_SLOTS
}

/// Two sessions of the same key only wait for each other a little more.
fn fold(id: Uuid) -> u64 {
    let (high, low) = id.as_bytes().split_at(8);
    let number = |half: &[u8]| half.iter().fold(0, |n, &byte| n << 8 | u64::from(byte));
    number(high) ^ number(low)
}
