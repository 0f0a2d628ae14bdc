//! The live-streaming backend that a PostgreSQL database can be: one room per domain.

mod catalog;
mod chat;
mod error;
mod heap;
mod identity;
mod influencers;
mod install;
mod keep;
mod limits;
mod lock;
mod metrics;
mod moderation;
mod notifications;
mod orders;
mod own_writes;
mod pg;
mod plan;
mod privacy;
mod products;
mod returned;
mod row;
mod schedule;
mod sessions;
mod tables;
mod transaction;
mod viewers;

::pgrx::pg_module_magic!(name, version);

/// Called by PostgreSQL once per backend, when the library is loaded.
#[pgrx::pg_guard]
pub extern "C-unwind" fn _PG_init() {
    // A backtrace would end in the DETAIL of errors that browsers see.
    // SAFETY: a backend has one thread.
    unsafe { std::env::set_var("RUST_LIB_BACKTRACE", "0") };
    catalog::watch();
    identity::define_settings();
    install::define_settings();
    limits::define_settings();
    metrics::worker::define_settings();
    metrics::log::watch_transactions();
    privacy::define_settings();
    moderation::watch_transactions();
    sessions::watch_transactions();
    viewers::define_settings();
    viewers::watch_transactions();
    // SAFETY: the prefix is ours; this refuses misspelt settings.
    unsafe { pgrx::pg_sys::MarkGUCPrefixReserved(c"live_stream".as_ptr()) };
}
