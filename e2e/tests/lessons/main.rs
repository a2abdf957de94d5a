//! What went wrong in other servers of this protocol, and must not go wrong here. Each test opens with the
//! story of the bug that it guards against.

mod forks;
mod limits;
mod overload;
mod reading;
mod writing;
