//! The frame of every page: one file, no external asset, readable offline, in light and in dark. A
//! page forbids itself any request.

/// A page of `body`. `script`: what runs in it; `None`: nothing may.
pub fn page(title: &str, body: &str, script: Option<&str>) -> String {
    let (may_run, script) = match script {
        Some(script) => ("; script-src 'unsafe-inline'", format!("<script>\n{script}</script>\n")),
        None => ("", String::new()),
    };
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'{may_run}\">\n\
         <title>{title} · Ninelives</title>\n<style>\n{css}</style>\n</head>\n<body>\n<main>\n{body}</main>\n\
         {script}</body>\n</html>\n",
        css = include_str!("assets/report.css"),
    )
}

/// A section of a page; nothing, if it has no content.
pub fn section(title: &str, content: &str) -> String {
    if content.is_empty() { String::new() } else { format!("<section>\n<h2>{title}</h2>\n{content}\n</section>\n") }
}
