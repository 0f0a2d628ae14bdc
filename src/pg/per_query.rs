//! What a function remembers from call to call within one execution of the query that calls it.

use pgrx::pg_sys;
use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;

thread_local! {
    /// By the address of the expression that calls. An entry goes with the memory of its query.
    static KEPT: RefCell<HashMap<usize, Option<Box<dyn Any>>>> = RefCell::default();
}

/// Runs `f` with what this expression has kept; a new one in its first call, and where there is no query.
pub fn with<T: Default + 'static, R>(
    call: pg_sys::FunctionCallInfo,
    f: impl FnOnce(&mut T) -> R,
) -> R {
    let Some(place) = place(call) else {
        return f(&mut T::default());
    };
    // Taken out meanwhile: `f` may run queries.
    let taken = KEPT.with_borrow_mut(|kept| kept.get_mut(&place).and_then(Option::take));
    let mut state = taken
        .and_then(|state| state.downcast::<T>().ok())
        .unwrap_or_default();
    let answer = f(&mut state);
    KEPT.with_borrow_mut(|kept| {
        if let Some(entry) = kept.get_mut(&place) {
            *entry = Some(state);
        }
    });
    answer
}

/// Where it is kept; makes the place in the first call.
fn place(call: pg_sys::FunctionCallInfo) -> Option<usize> {
    // SAFETY: PostgreSQL passes a call, whose expression, if it has one, lives as long as its memory context. The callback
    // lies in that context, and runs once, as it is freed or an error throws it away.
    unsafe {
        let expression = call.as_ref()?.flinfo;
        let context = expression.as_ref()?.fn_mcxt;
        let place = expression.addr();
        if KEPT.with_borrow(|kept| kept.contains_key(&place)) {
            return Some(place);
        }
        let size = size_of::<pg_sys::MemoryContextCallback>();
        let callback =
            pg_sys::MemoryContextAllocZero(context, size).cast::<pg_sys::MemoryContextCallback>();
        (*callback).func = Some(forget);
        (*callback).arg = expression.cast();
        pg_sys::MemoryContextRegisterResetCallback(context, callback);
        KEPT.with_borrow_mut(|kept| kept.insert(place, None));
        Some(place)
    }
}

unsafe extern "C-unwind" fn forget(expression: *mut std::ffi::c_void) {
    KEPT.with_borrow_mut(|kept| kept.remove(&expression.addr()));
}
