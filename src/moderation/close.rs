//! Closing people out of sessions in which they are welcome no longer.

use crate::access::{in_force, is_let_in};
use crate::metrics::entry;
use crate::metrics::rows::look_at;
use crate::pg::error::Result;
use crate::pg::keep::{Kept, Wait};
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan, sql};
use crate::viewers;
use pgrx::Uuid;
use pgrx::pg_sys;
use session::finished;
use std::collections::BTreeMap;

/// An influencer, and a user.
type OfInfluencer = (Uuid, Uuid);
/// A session, and a viewer in it.
type InSession = (Uuid, Uuid);

thread_local! {
    static UNWELCOME: Plan = const { Plan::writing(
        sql!("select v.id, v.session_id
            from (select distinct * from unnest($1, $2) as u (influencer_id, user_id)) p
            join public.influencers i on i.id = p.influencer_id and i.user_id <> p.user_id
            join public.live_stream_viewers v on v.user_id = p.user_id and v.is_still_watching
            join public.live_stream_sessions s
              on s.id = v.session_id and s.influencer_id = p.influencer_id
           where s.status not in ", finished!(), "
             and (exists (select from public.live_stream_bans b
                           where b.influencer_id = p.influencer_id and b.user_id = p.user_id
                             and ", in_force!(), ")
                  or s.visibility = 'private' and not ",
                     is_let_in!("s.id", "p.influencer_id", "p.user_id"), ")"),
        &[pg_sys::UUIDARRAYOID, pg_sys::UUIDARRAYOID],
    ) };
    static INFLUENCERS: Plan = const { Plan::writing(
        c"select id from public.influencers where id = any ($1)",
        &[pg_sys::UUIDARRAYOID],
    ) };
}

/// Those at an influencer that is still there: with one that goes, its sessions go, and nobody is
/// held up for that.
fn at_those_who_stay(people: &[OfInfluencer]) -> Result<Vec<OfInfluencer>> {
    let influencers: Vec<Uuid> = people.iter().map(|(influencer, _)| *influencer).collect();
    let there: Vec<Uuid> = as_owner(|| {
        plan::run(&INFLUENCERS, &[influencers.into()], |rows| {
            Ok((0..rows.len()).filter_map(|row| rows.get(row, 0)).collect())
        })
    })?;
    let stays = |influencer: &Uuid| there.contains(influencer);
    Ok(people
        .iter()
        .copied()
        .filter(|(influencer, _)| stays(influencer))
        .collect())
}

/// Closes the open rows of people, each given with an influencer, in that influencer's sessions
/// where they are banned, or which are private and theirs no longer: at once, and whoever of them has come or written
/// meanwhile as the transaction commits.
pub fn close_unwelcome(people: &[OfInfluencer]) -> Result<()> {
    if people.is_empty() {
        return Ok(());
    }
    let people = at_those_who_stay(people)?;
    let (free, _) = unwelcome(&people)?;
    viewers::close_rows(free)?;
    viewers::keep_out(&people);
    Ok(())
}

/// As the transaction commits, with the people held: nobody of them can join. A join that came first is seen here, one
/// that comes later sees what this transaction has done.
///
/// Errors: 40001 where the transaction's snapshot is older than a join.
pub fn close_at_end(people: &[OfInfluencer]) -> Result<()> {
    let (free, busy) = unwelcome(people)?;
    viewers::close_rows_for_good(free)?;
    for (session, viewer) in busy {
        look_at(session, viewer)?;
    }
    let users: Vec<Uuid> = people.iter().map(|(_, user)| *user).collect();
    as_owner(|| viewers::check_all_seen(&users))
}

/// Their open rows; and those of sessions that somebody has just now, each with its session. The sessions are kept first, as
/// who deletes one has it and then wants its viewers.
fn unwelcome(people: &[OfInfluencer]) -> Result<(Vec<Uuid>, Vec<InSession>)> {
    let (influencers, users): (Vec<Uuid>, Vec<Uuid>) = people.iter().copied().unzip();
    let mut sessions: BTreeMap<Uuid, Vec<Uuid>> = BTreeMap::new();
    as_owner(|| {
        plan::run(&UNWELCOME, &[influencers.into(), users.into()], |rows| {
            for row in 0..rows.len() {
                if let Some((id, session)) = rows.get::<Uuid>(row, 0).zip(rows.get(row, 1)) {
                    sessions.entry(session).or_default().push(id);
                }
            }
            Ok(())
        })
    })?;
    let (mut free, mut busy) = (Vec::new(), Vec::new());
    for (session, ids) in sessions {
        match entry::try_keep(session, Wait::Never)? {
            Kept::Yes => free.extend(ids),
            _ => busy.extend(ids.into_iter().map(|viewer| (session, viewer))),
        }
    }
    Ok((free, busy))
}
