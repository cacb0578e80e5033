/// The folders and files that the README's map names: the lines of the first code block under the heading that contains
/// "folders", as paths relative to the root. Indentation of two spaces is one level down; what follows the name explains it.
///
/// ```
/// let readme = "## Folders\n\n```text\nmodels/      pure\n  core/      words\nREADME.md    this\n```\n";
/// assert_eq!(foreglow_tests::architecture::folders_of_readme(readme), ["models", "models/core", "README.md"]);
/// ```
pub fn folders_of_readme(readme: &str) -> Vec<String> {
    let mut lines =
        readme.lines().skip_while(|l| !(l.starts_with('#') && l.to_lowercase().contains("folders"))).skip(1);
    if !lines.by_ref().any(|l| l.starts_with("```")) {
        return Vec::new();
    }
    let mut parents: Vec<&str> = Vec::new();
    let mut out = Vec::new();
    for line in lines.take_while(|l| !l.starts_with("```")) {
        let Some(name) = line.split_whitespace().next() else { continue };
        let depth = (line.len() - line.trim_start().len()) / 2;
        // A line that is indented past the next level goes on explaining the one before.
        if depth > parents.len() {
            continue;
        }
        parents.truncate(depth);
        parents.push(name.trim_end_matches('/'));
        out.push(parents.join("/"));
    }
    out
}
