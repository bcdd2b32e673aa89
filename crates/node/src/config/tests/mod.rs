//! What a user of configurations would notice.

mod bad_files;
mod balancer;
mod docs;
mod machine;
mod mutations;
