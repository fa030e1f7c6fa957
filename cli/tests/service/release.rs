//! The archives that the updater reads.

use crate::{Case, cases};

pub(crate) const ALL: &[Case] = cases![|| None;];
