//! The file source: what files mean, what mistakes say, and real files that change.

mod live;
mod texts;
