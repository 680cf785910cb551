//! Tests to come with the part they test.
