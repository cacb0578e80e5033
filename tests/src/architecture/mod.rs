//! The plan of the code as rules that a machine checks: who may import whom, where purity ends, which lints hold.
//!
//! [`Facts`] are what the repository says about itself (`cargo metadata`, the manifests, the source text);
//! [`violations`] compares them with the plan. The rules see facts only, so that a test can plant a violation without
//! touching a file.

mod facts;
mod folders;
mod rules;
mod source;

pub use facts::{Facts, Manifest, Source};
pub use folders::folders_of_readme;
pub use rules::{Violation, violations};
pub use source::{code_of, imports_of, roots_of, test_modules_of};
