//! One module a user journey, in one binary.

mod architecture;
