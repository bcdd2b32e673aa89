//! What a user of configurations would notice.

mod bad_files;
mod docs;
mod machine;
mod mutations;
