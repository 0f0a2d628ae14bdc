//! What people see of a text, without PostgreSQL: whether it shows anything, whose name it looks like, and which emoji it is.
//!
//! A text is never changed here but for a reaction's, which is one of several spellings of the same emoji, and a reference's.

mod blank;
mod emoji;
mod name;
mod reference;

pub use blank::is_blank;
pub use emoji::one_form;
pub use name::{Outline, looks_like, not_in_names, outline};
pub use reference::reference;
