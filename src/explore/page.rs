//! The page's own files, which are part of the program.

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Path, content type and content.
const FILES: [(&str, &str, &str); 16] = [
    ("/", HTML, include_str!("page/index.html")),
    ("/page/style.css", CSS, include_str!("page/style.css")),
    ("/page/controls.css", CSS, include_str!("page/controls.css")),
    ("/page/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
    ("/page/main.js", SCRIPT, include_str!("page/main.js")),
    ("/page/controls.js", SCRIPT, include_str!("page/controls.js")),
    ("/page/favourites.js", SCRIPT, include_str!("page/favourites.js")),
    ("/page/keys.js", SCRIPT, include_str!("page/keys.js")),
    ("/page/loop.js", SCRIPT, include_str!("page/loop.js")),
    ("/page/save.js", SCRIPT, include_str!("page/save.js")),
    ("/page/server.js", SCRIPT, include_str!("page/server.js")),
    ("/page/stage.js", SCRIPT, include_str!("page/stage.js")),
    ("/page/state.js", SCRIPT, include_str!("page/state.js")),
    ("/page/store.js", SCRIPT, include_str!("page/store.js")),
    ("/page/theme.js", SCRIPT, include_str!("page/theme.js")),
    ("/page/wall.js", SCRIPT, include_str!("page/wall.js")),
];

/// Content type and content of a path.
pub(super) fn file(path: &str) -> Option<(&'static str, &'static str)> {
    FILES.iter().find(|(of, _, _)| *of == path).map(|(_, kind, content)| (*kind, *content))
}
