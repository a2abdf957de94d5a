//! Each rule of one stream on its own, in sentences.

mod rules {
    mod append;
    mod create_again;
    mod first_append;
    mod run;
    mod setup;
    mod trim;
}
