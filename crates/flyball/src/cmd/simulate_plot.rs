//! The courses of `flyball simulate` as a picture: for each policy the load, its replicas, those of one who knows the
//! future, and where the objective was missed. Plain SVG, without scripts or fonts of its own.

use std::fmt::Write as _;

use flyball_sim::{Point, SimulationReport};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 180.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 30.0;

/// All policies below each other, on one scale.
pub(crate) fn svg(objective: &str, reports: &[SimulationReport]) -> String {
    let most = |value: fn(&Point) -> f64| {
        reports.iter().flat_map(|report| &report.course).map(value).fold(1.0, f64::max)
    };
    let (rates, replicas) =
        (most(|point| point.rate), most(|point| f64::from(point.replicas.max(point.optimum))));
    let panel = HEIGHT + TOP + 20.0;
    let mut text = String::new();
    let _ = write!(
        text,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        WIDTH + LEFT + 20.0,
        panel * reports.len() as f64
    );
    for (index, report) in reports.iter().enumerate() {
        let _ = writeln!(text, "<g transform=\"translate({LEFT} {})\">", panel * index as f64 + TOP);
        let _ = writeln!(
            text,
            "<text y=\"-10\">{}: {:.2} % over {}, {:.1} replicas on average, {:.2} x optimal (grey: load up to {rates:.0}/s; \
             blue: replicas; green: optimum; red: missed)</text>",
            escaped(&report.policy),
            report.over * 100.0,
            escaped(objective),
            report.replicas_mean,
            report.times_optimal
        );
        let _ = writeln!(
            text,
            "<text x=\"-8\" y=\"10\" text-anchor=\"end\">{replicas:.0}</text><text x=\"-8\" y=\"{HEIGHT}\" text-anchor=\"end\">0</text>"
        );
        let area = line(&report.course, |point| point.rate / rates);
        let _ = writeln!(text, "<path d=\"{area} L{WIDTH} {HEIGHT} L0 {HEIGHT} Z\" fill=\"#ddd\"/>");
        for (colour, value) in [
            ("#2a2", (|point| f64::from(point.optimum)) as fn(&Point) -> f64),
            ("#22c", |point| f64::from(point.replicas)),
        ] {
            let path = line(&report.course, |point| value(point) / replicas);
            let _ = writeln!(text, "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\"/>");
        }
        for (place, point) in
            report.course.iter().enumerate().filter(|(_, point)| point.over > report.allowed)
        {
            let (x, length) = (at(place, report.course.len()), point.over * 20.0 + 2.0);
            let _ = writeln!(text, "<path d=\"M{x:.1} {HEIGHT} v{:.1}\" stroke=\"#c22\"/>", -length);
        }
        let _ = writeln!(text, "</g>");
    }
    text.push_str("</svg>\n");
    text
}

fn at(place: usize, count: usize) -> f64 {
    place as f64 / count.saturating_sub(1).max(1) as f64 * WIDTH
}

fn line(course: &[Point], value: impl Fn(&Point) -> f64) -> String {
    let mut path = String::new();
    for (place, point) in course.iter().enumerate() {
        let letter = if place == 0 { 'M' } else { 'L' };
        let _ = write!(path, "{letter}{:.1} {:.1} ", at(place, course.len()), HEIGHT * (1.0 - value(point)));
    }
    path.trim_end().to_owned()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
