//! Tells what is there already as the files have it. Making a policy, a trigger or a view anew
//! locks out every request and can deadlock with them: run again, the installer must not.

use super::names::{range, strings, text};
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::plan;
use pgrx::pg_sys;
use pgrx::{PgList, spi::quote_identifier};
use std::ffi::{CStr, CString};

/// # Safety
/// `policy` must come from the parser.
pub unsafe fn policy(policy: &pg_sys::CreatePolicyStmt) -> Result<bool> {
    // SAFETY: the parser fills the fields; a policy is for one table.
    let (table, name, command, everybody) = unsafe {
        let roles = PgList::<pg_sys::RoleSpec>::from_pg(policy.roles);
        let everybody = roles
            .iter_ptr()
            .all(|role| (*role).roletype == pg_sys::RoleSpecType::ROLESPEC_PUBLIC);
        (
            range(policy.table),
            text(policy.policy_name),
            text(policy.cmd_name),
            everybody,
        )
    };
    let kept: Option<Vec<Option<String>>> = plan::ask(
        "select array[pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)]
           from pg_policy
          where polrelid = to_regclass($1) and polname = $2 and polpermissive = $3
            and polroles = '{0}' and $4
            and polcmd = case $5 when 'all' then '*' when 'select' then 'r' when 'insert' then 'a'
                                 when 'update' then 'w' when 'delete' then 'd' end::\"char\"",
        &[
            table.as_str().into(),
            name.into(),
            policy.permissive.into(),
            everybody.into(),
            command.into(),
        ],
    )?;
    let Some(kept) = kept else { return Ok(false) };
    for (wanted, kept) in [policy.qual, policy.with_check].into_iter().zip(kept) {
        let same = match (wanted.is_null(), kept) {
            (true, None) => true,
            // SAFETY: the policy's own expressions.
            (false, Some(kept)) => unsafe {
                let wanted_query = parse(&format!("select from {table}"))?;
                (*(*wanted_query).stmt.cast::<pg_sys::SelectStmt>()).whereClause = wanted;
                let kept_query = parse(&format!("select from {table} where {kept}"))?;
                normal_form(wanted_query) == normal_form(kept_query)
            },
            _ => false,
        };
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}

/// # Safety
/// `trigger` must come from the parser.
pub unsafe fn trigger(trigger: &pg_sys::CreateTrigStmt) -> Result<bool> {
    // SAFETY: the parser fills the fields.
    unsafe {
        let never = is_false(trigger.whenClause);
        if !(trigger.whenClause.is_null() || never)
            || !trigger.args.is_null()
            || trigger.isconstraint
        {
            return Ok(false);
        }
        let function = strings(trigger.funcname);
        let function = function
            .iter()
            .map(quote_identifier)
            .collect::<Vec<_>>()
            .join(".");
        let kind = trigger.timing | trigger.events | i16::from(trigger.row);
        let transitions = PgList::<pg_sys::TriggerTransition>::from_pg(trigger.transitionRels);
        let transition = |new| {
            transitions
                .iter_ptr()
                .find(|transition| (**transition).isNew == new)
                .map(|transition| text((*transition).name))
        };
        let there: Option<bool> = plan::ask(
            "select true from pg_trigger t
              where tgrelid = to_regclass($1) and tgname = $2 and tgtype = $3
                and tgfoid = to_regproc($4) and tgenabled = 'O'
                and pg_get_expr(tgqual, tgrelid) is not distinct from case when $8 then 'false' end
                and tgoldtable is not distinct from $5 and tgnewtable is not distinct from $6
                and (select coalesce(array_agg(attname::text order by attname::text), '{}')
                       from pg_attribute where attrelid = tgrelid and attnum = any (tgattr))
                  = (select coalesce(array_agg(name order by name), '{}') from unnest($7) name)",
            &[
                range(trigger.relation).into(),
                text(trigger.trigname).into(),
                kind.into(),
                function.into(),
                transition(false).into(),
                transition(true).into(),
                strings(trigger.columns).into(),
                never.into(),
            ],
        )?;
        Ok(there.is_some())
    }
}

/// Whether an expression is the word `false`.
///
/// # Safety
/// `expression` must be null or come from the parser.
unsafe fn is_false(expression: *mut pg_sys::Node) -> bool {
    // SAFETY: each cast follows the node's tag.
    unsafe {
        if expression.is_null() || (*expression).type_ != pg_sys::NodeTag::T_A_Const {
            return false;
        }
        let constant: &pg_sys::A_Const = &*expression.cast();
        !constant.isnull
            && constant.val.node.type_ == pg_sys::NodeTag::T_Boolean
            && !constant.val.boolval.boolval
    }
}

/// Compares the query and the options, and not the owner.
///
/// # Safety
/// `view` must come from the parser, and `name` be an existing relation.
pub unsafe fn view(view: &pg_sys::ViewStmt, name: &str) -> Result<bool> {
    // SAFETY: the parser fills the options.
    let options: Vec<String> = unsafe {
        PgList::<pg_sys::DefElem>::from_pg(view.options)
            .iter_ptr()
            .map(|option| {
                let value = pg_sys::defGetString(option);
                format!("{}={}", text((*option).defname), text(value))
            })
            .collect()
    };
    let kept: Option<String> = plan::ask(
        "select pg_get_viewdef(oid) from pg_class
          where oid = to_regclass($1) and relkind = 'v' and coalesce(reloptions, '{}') = $2",
        &[name.into(), options.into()],
    )?;
    let Some(kept) = kept else { return Ok(false) };
    // SAFETY: the view's own query; analysing it leaves the statement's text alone.
    unsafe {
        let wanted = parse("select")?;
        (*wanted).stmt = pg_sys::copyObjectImpl(view.query.cast()).cast();
        Ok(normal_form(wanted) == normal_form(parse(&kept)?))
    }
}

/// The only statement of a text, which must be right.
fn parse(sql: &str) -> Result<*mut pg_sys::RawStmt> {
    let nothing = || Error::new(SqlState::INTERNAL, format!("no statement in \"{sql}\""));
    let text = CString::new(sql).map_err(|_| nothing())?;
    // SAFETY: parses only; an error is PostgreSQL's own. The tree lives in the current context.
    let tree = unsafe { PgList::<pg_sys::RawStmt>::from_pg(pg_sys::pg_parse_query(text.as_ptr())) };
    tree.get_ptr(0).ok_or_else(nothing)
}

/// How PostgreSQL writes a query that it has understood.
///
/// # Safety
/// `query` must be the parse tree of one query.
unsafe fn normal_form(query: *mut pg_sys::RawStmt) -> String {
    // SAFETY: the caller vouches for it; the trees live in the current memory context.
    unsafe {
        let none = std::ptr::null_mut();
        let query =
            pg_sys::parse_analyze_fixedparams(query, c"".as_ptr(), std::ptr::null(), 0, none);
        CStr::from_ptr(pg_sys::pg_get_querydef(query, false))
            .to_string_lossy()
            .into_owned()
    }
}
