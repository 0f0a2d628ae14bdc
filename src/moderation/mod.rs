//! People with a part: moderators, banned people, guests of private sessions; and the log of who
//! did what to whom.
//!
//! A person who joins is looked at twice: before its row is written, and again when it is, under
//! the lock that closing somebody out takes too. So whoever is banned, or a guest no longer, is
//! either seen and closed by the one who decides that, or sees it and is refused.

mod bans;
mod close;
mod invitations;
mod log;
mod people;

pub use log::{Act, note};

use crate::pg::error::Result;
use crate::pg::keep::{self, Wait};
use crate::pg::lock::{Lock, Mode};
use crate::pg::transaction;
use crate::viewers;
use pgrx::Uuid;
use std::cell::Cell;
use std::collections::BTreeSet;

thread_local! {
    /// The influencer whose queue this transaction has waited for.
    static QUEUED: Cell<Option<Uuid>> = const { Cell::new(None) };
}

/// Forgets with each transaction what it held. Called once per backend.
pub fn watch_transactions() {
    invitations::watch_transactions();
    viewers::CLOSE_UNWELCOME.register(close::close_at_end);
    transaction::at_end(|| QUEUED.set(None));
    transaction::at_partial_rollback(|_| QUEUED.set(None));
}

/// Before a ban or a moderator is written: statements that write several for one influencer go one
/// after the other, or each would wait for a row of the other's that is the same as its own. And
/// the influencer stays until the row refers to it: it goes before its sessions go.
fn queue(influencer: Uuid) -> Result<()> {
    let lock = Lock::Parts(influencer);
    match QUEUED.get() {
        Some(first) if first == influencer => return Ok(()),
        None => {
            lock.wait(Mode::Alone);
            QUEUED.set(Some(influencer));
        }
        // In whatever order the statement has them: to wait now is to wait in a circle.
        Some(_) => {
            lock.try_now(Mode::Alone);
        }
    }
    if let Some(referred) = keep::referred("live_stream_moderation_log_influencer_id_fkey")? {
        referred.keep(influencer, Wait::Always)?;
    }
    Ok(())
}

/// Until the transaction ends, nobody else decides on the part of these users, each given with an influencer.
/// What was decided before is seen after this.
fn hold_parts(people: impl Iterator<Item = (Uuid, Uuid)>) {
    let people: BTreeSet<(Uuid, Uuid)> = people.collect();
    if people.len() > MANY_PEOPLE {
        let influencers: BTreeSet<Uuid> =
            people.iter().map(|(influencer, _)| *influencer).collect();
        for influencer in influencers {
            Lock::Parts(influencer).wait(Mode::Alone);
        }
        return;
    }
    for (influencer, user) in people {
        Lock::Part(influencer, user).wait(Mode::Alone);
    }
}

/// More than these are held by their influencers: the server has room for so many locks.
const MANY_PEOPLE: usize = 500;
