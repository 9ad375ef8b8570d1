//! Which nodes a group should have.
