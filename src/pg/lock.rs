//! The locks of live_stream, taken beside the rows of sessions and people, and for what is done by one at a time.
//!
//! They are PostgreSQL's advisory locks, with classes that no SQL function can name, and keys that nobody can guess: nobody
//! stalls a session, the worker or an installation from outside. What the worker keeps beyond a
//! transaction can be lost to `pg_advisory_unlock_all()` in a trigger of the app's; so it looks.
//!
//! | lock | held by | to |
//! | --- | --- | --- |
//! | hot | the worker, alone, while it folds a session | make others append |
//! | present | whoever changes a session's numbers, shared, to its end | be counted: nobody ever waits for it |
//! | seats | who comes to a session, shared, or alone near its limit; who ends, limits or hides it, alone | count exactly who came before |
//! | all seats | who takes seats, shared; alone, who would take too many | the same |
//! | person | who counts that user, or one of the same slot, or closes it out | count a person once; let nobody join meanwhile |
//! | acting | who joins as a user, shared; who erases it, alone | erase who is joining too |
//! | joining | who joins a session by the function, as that user | find the row that another request of the user makes |
//! | writer | who writes in the chat as that user | count its messages one after the other |
//! | worker | the worker of the database | be the only one |
//! | start | who starts the worker, alone; who waits for that, shared | start one |
//! | part | who decides on the part of that user at that influencer, alone | have nobody moderator and banned |
//! | parts | who writes bans or moderators of an influencer | have several of one statement not meet those of another |
//! | on air | who takes an influencer's session live | name the other one that is |
//! | schedules | who makes the sessions of schedules; who erases an influencer | make each once; keep nothing of who is gone |
//! | plans | who has added schedules, exceptions or planned sessions of an influencer | count them one after the other |
//! | room | a host who raises numbers of products of a session | count what it adds there one after the other |
//! | install | install() | be the only one |
//!
//! # Who holds up whom
//!
//! A transaction may take as long as it likes. So while it is under way it holds nothing of ours that another person's
//! request waits for, but: parts, part, plans, on air and room, which are of one influencer's people; and acting, joining and
//! writer, which are of one person; and the seats of a session that it ends. Person, seats and the rows of sessions, and of products, messages and viewers for their
//! tallies, are taken as it commits, and held for the length of a commit. Schedules is the server's.
//!
//! # The one order
//!
//! Whoever takes several of these, and locks of rows beside them, takes them in this order, and
//! within each line from the lowest id or slot up:
//!
//! 1. writer, schedules, parts, acting, joining: while nothing else is held
//! 2. the influencer's row, and then the session's, kept from being deleted (`keep.rs`)
//! 3. rows that a client's statement writes, which PostgreSQL locks before a trigger sees them
//! 4. acting (of whom a server writes, for a second), part, plans, room
//! 5. as the transaction commits: invitations; the rows of products, messages and viewers for their
//!    tallies; the rows of sessions; seats; person
//!
//! Of the rows of line 5 those of sessions and of tallies are not waited for, where there is a worker: the change is
//! appended. Without one they are tried for a second, and then it is appended too: who has the row may be waiting for this
//! transaction, as one that deletes the session. Rows of viewers that are closed because a session ends or is hidden, or because of a
//! ban, are passed by where somebody has them: whoever has them closes them, or the worker does (`viewers/closing.rs`).
//!
//! A statement that deletes a session has its row, and wants all else after it. So whoever writes what refers to a session
//! keeps it first, and who has rows of line 3 already waits for no session that is deleted: the moderation log and schedules
//! leave the session out, and who writes to several viewers of its own is told. So is who writes to a row twice, as PostgreSQL
//! checks once more then what the row refers to (`keep::again`). Orders and products are locked before the
//! viewers go.
//!
//! Who changes a schedule has its row, and then wants those of its sessions. So who changes or deletes a session, and then says
//! so in the schedule, does not wait for that: what could not be said is made up for (`schedule/called_off.rs`).

use pgrx::Uuid;
use pgrx::pg_sys;
use siphasher::sip::SipHasher13;
use std::cell::OnceCell;
use std::hash::Hasher;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    Hot(Uuid),
    Present(Uuid),
    Seats(Uuid),
    AllSeats,
    Person(u64),
    Acting(Uuid),
    Joining(Uuid, Uuid),
    Writer(Uuid),
    Worker,
    Start,
    Part(Uuid, Uuid),
    Parts(Uuid),
    OnAir(Uuid),
    Schedules,
    Plans(Uuid),
    Room(Uuid),
    Install,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Shared = pg_sys::ShareLock as isize,
    Alone = pg_sys::ExclusiveLock as isize,
}

/// What kind of lock it is, as `pg_locks.objsubid` has it. PostgreSQL's functions use 1 and 2.
#[derive(Clone, Copy)]
#[repr(u16)]
enum Class {
    Seats = 0x4c53,
    Present,
    AllSeats,
    Person,
    Worker,
    Start,
    Writer,
    Part,
    OnAir,
    Schedules,
    Install,
    Parts,
    Acting,
    Joining,
    Hot,
    Plans,
    Room,
}

/// Of [`Lock::Present`].
pub const PRESENT_CLASS: i32 = Class::Present as i32;

impl Lock {
    fn tag(self) -> pg_sys::LOCKTAG {
        let (class, key) = match self {
            Self::Hot(session) => (Class::Hot, key(&[session])),
            Self::Present(session) => (Class::Present, key(&[session])),
            Self::Seats(session) => (Class::Seats, key(&[session])),
            Self::AllSeats => (Class::AllSeats, 0),
            Self::Person(slot) => (Class::Person, slot),
            Self::Acting(user) => (Class::Acting, key(&[user])),
            Self::Joining(session, user) => (Class::Joining, key(&[session, user])),
            Self::Writer(user) => (Class::Writer, key(&[user])),
            Self::Worker => (Class::Worker, 0),
            Self::Start => (Class::Start, 0),
            Self::Part(influencer, user) => (Class::Part, key(&[influencer, user])),
            Self::Parts(influencer) => (Class::Parts, key(&[influencer])),
            Self::OnAir(influencer) => (Class::OnAir, key(&[influencer])),
            Self::Schedules => (Class::Schedules, 0),
            Self::Plans(influencer) => (Class::Plans, key(&[influencer])),
            Self::Room(session) => (Class::Room, key(&[session])),
            Self::Install => (Class::Install, 0),
        };
        pg_sys::LOCKTAG {
            // SAFETY: a plain read of this backend's state.
            locktag_field1: unsafe { pg_sys::MyDatabaseId }.to_u32(),
            locktag_field2: (key >> 32) as u32,
            locktag_field3: key as u32,
            locktag_field4: class as u16,
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

    /// How many others hold the lock, in whatever mode.
    pub fn others(self) -> i64 {
        let (tag, mut count) = (self.tag(), 0);
        // SAFETY: a list of the transactions that hold what an exclusive lock would wait for, without this one; it is
        // freed here.
        unsafe {
            let list = pg_sys::GetLockConflicts(&tag, Mode::Alone as i32, &mut count);
            pg_sys::pfree(list.cast());
        }
        count.into()
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
    Class::Worker as i32
}

/// All users share so many locks, so that a statement on very many does not need more
/// than the server has room for.
const PERSON_SLOTS: u64 = 2_048;

/// The slot of a user's lock.
pub fn person_slot(user: Uuid) -> u64 {
    key(&[user]) % PERSON_SLOTS
}

thread_local! {
    /// Secret of the server, which its files have from the beginning, and no query sees.
    static SECRET: OnceCell<[u8; 16]> = const { OnceCell::new() };
}

fn secret() -> [u8; 16] {
    // SAFETY: a random array of 32 bytes in shared memory, which the server has read as it started and never changes.
    let read = || unsafe { *pg_sys::GetMockAuthenticationNonce().cast::<[u8; 16]>() };
    SECRET.with(|secret| *secret.get_or_init(read))
}

/// The key of what some ids name: SipHash-1-3 of them. Clients choose ids of their own sessions, and locks are of ids: with a
/// secret in it, nobody finds one with the key of somebody else's.
fn key(ids: &[Uuid]) -> u64 {
    let mut hasher = SipHasher13::new_with_key(&secret());
    ids.iter().for_each(|id| hasher.write(id.as_bytes()));
    hasher.finish()
}
