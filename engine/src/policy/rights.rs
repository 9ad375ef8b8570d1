//! What one identity may do.

use std::fmt;

use super::area::Area;

/// What somebody may be allowed to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Right {
    /// Have events decided.
    Write,
    /// See accounts, transfers and verdicts.
    Read,
    /// See the whole log of every partition.
    ReadLog,
    /// Give the cluster orders.
    Admin,
}

impl Right {
    /// Every right.
    pub const ALL: [Self; 4] = [Self::Write, Self::Read, Self::ReadLog, Self::Admin];

    /// As it stands in a policy.
    pub fn name(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Read => "read",
            Self::ReadLog => "read-log",
            Self::Admin => "admin",
        }
    }

    /// It is about books and ledgers, and not about the cluster.
    pub fn is_of_books(self) -> bool {
        matches!(self, Self::Write | Self::Read)
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Where it may have events decided.
    pub write: Area,
    /// Where it may see what is there.
    pub read: Area,
    /// It may see the whole log.
    pub read_log: bool,
    /// It may give orders.
    pub admin: bool,
    /// It is a node of the cluster.
    pub is_node: bool,
}

impl Rights {
    /// It has this right, in some book if it is about books.
    pub fn has(&self, right: Right) -> bool {
        match right {
            Right::Write => !self.write.is_empty(),
            Right::Read => !self.read.is_empty(),
            Right::ReadLog => self.read_log,
            Right::Admin => self.admin,
        }
    }

    /// It has some right, or is a node.
    pub fn any(&self) -> bool {
        self.is_node || Right::ALL.into_iter().any(|right| self.has(right))
    }

    /// No event and nothing that was stored is hidden or forbidden: none needs to be looked at.
    pub fn is_unbounded(&self) -> bool {
        self.write.is_everything() && self.read.is_everything()
    }
}
