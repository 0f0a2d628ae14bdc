//! The moderation log: who did what to whom, written with the act itself.

use super::people::influencers_of;
use crate::identity;
use crate::metrics::entry;
use crate::pg::error::Result;
use crate::pg::keep::{self, Kept, Wait};
use crate::pg::owner::{self, as_owner};
use crate::pg::plan::{self, Plan};
use pgrx::Uuid;
use pgrx::pg_sys;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

/// What somebody did. Without an influencer, the session's is meant.
#[derive(Default)]
pub struct Act {
    pub action: &'static str,
    pub influencer: Option<Uuid>,
    pub session: Option<Uuid>,
    pub user: Option<Uuid>,
    pub message: Option<Uuid>,
    pub reason: Option<String>,
    /// Who did it, where it is not the caller.
    pub actor: Option<Uuid>,
}

thread_local! {
    // What goes with its influencer or session is no act of anybody's.
    static WRITE: Plan = const { Plan::writing(
        c"insert into public.live_stream_moderation_log
            (action, influencer_id, session_id, user_id, message_id, reason, actor_id)
          select a.action::public.live_stream_moderation_action, i.id, a.session_id, a.user_id,
                 a.message_id, left(a.reason, 500), a.actor_id
            from unnest($1, $2, $3, $4, $5, $6, $7)
                   with ordinality as a (action, influencer_id, session_id, user_id, message_id,
                                         reason, actor_id, nth)
            join public.influencers i on i.id = a.influencer_id
           order by a.nth",
        &[
            pg_sys::TEXTARRAYOID, pg_sys::UUIDARRAYOID, pg_sys::UUIDARRAYOID, pg_sys::UUIDARRAYOID,
            pg_sys::UUIDARRAYOID, pg_sys::TEXTARRAYOID, pg_sys::UUIDARRAYOID,
        ],
    ) };
}

/// Writes acts of the caller into the log. What befalls somebody because the account is gone is
/// no act of anybody's.
pub fn note(mut acts: Vec<Act>) -> Result<()> {
    if acts.is_empty() {
        return Ok(());
    }
    let caller = identity::user_id()?;
    as_owner(|| {
        let people = acts.iter().flat_map(|act| [act.user, act.actor, caller]);
        let gone = gone(people.flatten().collect())?;
        let is_there = |id: &Uuid| !gone.contains(id);
        acts.retain(|act| act.user.as_ref().is_none_or(is_there));
        keep_what_stays(&mut acts)?;
        let actor = |act: &Act| act.actor.or(caller).filter(is_there);
        let args = [
            acts.iter()
                .map(|act| Some(act.action))
                .collect::<Vec<_>>()
                .into(),
            acts.iter()
                .map(|act| act.influencer)
                .collect::<Vec<_>>()
                .into(),
            acts.iter()
                .map(|act| act.session)
                .collect::<Vec<_>>()
                .into(),
            acts.iter().map(|act| act.user).collect::<Vec<_>>().into(),
            acts.iter()
                .map(|act| act.message)
                .collect::<Vec<_>>()
                .into(),
            acts.iter()
                .map(|act| act.reason.clone())
                .collect::<Vec<_>>()
                .into(),
            acts.iter().map(actor).collect::<Vec<_>>().into(),
        ];
        plan::execute(&WRITE, &args).map(drop)
    })
}

/// Leaves out what is being deleted, whoever may have to wait for this transaction meanwhile: a
/// session that an act was about, and the acts of an influencer. An act without either is dropped.
fn keep_what_stays(acts: &mut Vec<Act>) -> Result<()> {
    let named: Vec<Uuid> = acts.iter().filter_map(|act| act.session).collect();
    let sessions = influencers_of(named)?;
    for act in acts.iter_mut() {
        let found = act
            .session
            .and_then(|session| sessions.iter().find(|(id, _)| *id == session));
        act.influencer = act.influencer.or(found.map(|(_, influencer)| *influencer));
        act.session = found.map(|(session, _)| *session);
    }
    let referred = keep::referred("live_stream_moderation_log_influencer_id_fkey")?;
    let Some(referred) = referred else {
        return Ok(());
    };
    let mut influencers: BTreeMap<Uuid, bool> = BTreeMap::new();
    for influencer in acts.iter().filter_map(|act| act.influencer) {
        if let Entry::Vacant(entry) = influencers.entry(influencer) {
            let kept = referred.keep(influencer, Wait::UnlessDeleted)?;
            entry.insert(kept == Kept::Yes);
        }
    }
    acts.retain(|act| {
        act.influencer
            .is_some_and(|id| influencers.get(&id) == Some(&true))
    });
    for act in acts {
        if let Some(session) = act.session
            && entry::try_keep(session, Wait::Never)? != Kept::Yes
        {
            act.session = None;
        }
    }
    Ok(())
}

/// Those of the people who have no account any more: what is deleted with an account is seen
/// here, and the log could not refer to it. Asked as foreign keys ask, with the rights of whoever
/// owns the accounts.
fn gone(mut people: BTreeSet<Uuid>) -> Result<BTreeSet<Uuid>> {
    let accounts = keep::referred("live_stream_moderation_log_user_id_fkey")?;
    let Some(accounts) = accounts else {
        return Ok(BTreeSet::new());
    };
    let table = accounts.table();
    let owner: Option<pg_sys::Oid> = plan::ask(
        "select relowner from pg_class where oid = $1",
        &[table.into()],
    )?;
    let query: Option<String> = plan::ask(
        "select format('select array_agg(id) from %s where id = any ($1)', $1::regclass)",
        &[table.into()],
    )?;
    let Some((owner, query)) = owner.zip(query) else {
        return Ok(people);
    };
    let ids: Vec<Uuid> = people.iter().copied().collect();
    let found: Option<Vec<Uuid>> =
        owner::as_role(owner, pg_sys::SECURITY_RESTRICTED_OPERATION, || {
            plan::ask(&query, &[ids.into()])
        })?;
    for person in found.unwrap_or_default() {
        people.remove(&person);
        // Nor is one waited for who is losing it: that may be for this transaction.
        if accounts.keep(person, Wait::UnlessDeleted)? != Kept::Yes {
            people.insert(person);
        }
    }
    Ok(people)
}
