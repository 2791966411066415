"""The dress of ``report.html``: one sheet, light and dark, from a phone to a wide screen."""

CSS = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --sheet: #f6f7f9; --ink: #1c2733; --muted: #5d6876; --grid: #dde2e8; --line: #e3e7ec;
  --good: #00714f; --bad: #b34700; --warn: #fff4de; --warn-ink: #6b4700;
  --arm-base: #6b7785; --arm-0: #0072b2; --arm-1: #d55e00; --arm-2: #009e73; --arm-3: #b8589a; --arm-4: #c98a00;
  --arm-5: #3a9fd4;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14181d; --sheet: #1b2027; --ink: #e8ecf0; --muted: #9aa5b1; --grid: #303842; --line: #2a313a;
    --good: #4cc79b; --bad: #ff9a5c; --warn: #33290f; --warn-ink: #f2d08a;
    --arm-base: #a3aebb; --arm-0: #56b0ea; --arm-1: #ff8a45; --arm-2: #3cc79c; --arm-3: #df8cc5; --arm-4: #e8b54a;
    --arm-5: #8fd0f2;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
main { max-width: 1240px; margin: 0 auto; padding: 40px 32px 72px; }
h1 { margin: 0; font-size: 17px; font-weight: 600; color: var(--muted); overflow-wrap: anywhere; }
h2 { margin: 56px 0 16px; font-size: 21px; line-height: 1.3; font-weight: 650; letter-spacing: -0.01em; }
p { margin: 0; max-width: 78ch; overflow-wrap: anywhere; }
.verdict {
  margin: 10px 0 14px; max-width: 30ch; font-size: clamp(26px, 4.4vw, 42px); line-height: 1.16; font-weight: 680;
  letter-spacing: -0.022em; text-wrap: balance;
}
.details { margin: 0 0 4px; }
.facts {
  display: flex; flex-wrap: wrap; gap: 4px 24px; margin: 24px 0 0; padding: 14px 0 0; border-top: 1px solid var(--line);
  color: var(--muted); font-size: 14px;
}
.facts b { color: var(--ink); font-weight: 550; overflow-wrap: anywhere; }
.notice {
  margin: 24px 0 0; padding: 12px 16px; border-radius: 8px; max-width: none; background: var(--warn);
  color: var(--warn-ink); font-size: 15px;
}
.note { color: var(--muted); font-size: 14px; }
.note + .gallery { margin-top: 14px; }
.panel, .gallery { border: 1px solid var(--line); border-radius: 10px; overflow: hidden; }
.panel + .panel { margin-top: 16px; }
.panel h3 { margin: 0; padding: 14px 16px 2px; font-size: 15px; font-weight: 600; }
.table, .gallery { overflow-x: auto; }
table { border-collapse: separate; border-spacing: 0; width: 100%; font-size: 14.5px; }
table { font-variant-numeric: tabular-nums; }
th, td { padding: 10px 16px; text-align: right; vertical-align: top; white-space: nowrap; }
th, td { border-top: 1px solid var(--line); }
thead th {
  border-top: 0; padding-bottom: 8px; color: var(--muted); font-size: 13px; font-weight: 500; vertical-align: bottom;
}
th:first-child, td.text, thead th.text { text-align: left; }
th:first-child { position: sticky; left: 0; z-index: 1; background: var(--paper); font-weight: 600; }
tbody th { min-width: 104px; max-width: 240px; white-space: normal; overflow-wrap: break-word; }
small { display: block; color: var(--muted); font-size: 12.5px; font-weight: 400; }
.better { color: var(--good); font-weight: 600; }
.worse { color: var(--bad); font-weight: 600; }
.mark { width: 13px; height: 13px; margin-right: 8px; vertical-align: -1.5px; overflow: visible; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(340px, 100%), 1fr)); gap: 16px; }
figure { margin: 0; padding: 16px; border: 1px solid var(--line); border-radius: 10px; min-width: 0; }
figcaption { margin-bottom: 12px; font-size: 15px; font-weight: 600; }
figcaption small { margin-top: 2px; line-height: 1.45; font-size: 13px; }
figure svg { display: block; width: 100%; height: auto; max-width: 480px; margin: 0 auto; }
.gallery { padding: 4px 0 8px; }
.gallery table { font-size: 13px; line-height: 1.35; }
.gallery th, .gallery td { border: 0; padding: 6px 5px; }
.gallery tbody th { width: 200px; min-width: 200px; padding: 10px 16px; text-align: left; vertical-align: middle; }
.gallery td { text-align: left; white-space: normal; }
.gallery td:last-child { width: 100%; }
.gallery .first th, .gallery .first td { border-top: 1px solid var(--line); padding-top: 12px; }
.gallery img, .gallery .none { display: block; width: 148px; height: 148px; border-radius: 5px; object-fit: contain; }
.gallery img { background: var(--sheet); }
.gallery .none { display: grid; place-items: center; background: var(--sheet); color: var(--muted); }
.gallery .under { display: block; width: 148px; margin-top: 4px; color: var(--muted); overflow-wrap: anywhere; }
.gallery .wrong { color: var(--bad); font-weight: 600; }
.gallery code { font-size: 12px; overflow-wrap: break-word; }
.gallery th:first-child { border-right: 1px solid var(--line); }
dl { display: grid; grid-template-columns: 150px minmax(0, 1fr); gap: 12px 24px; margin: 0; font-size: 15px; }
dt { color: var(--muted); }
dd { margin: 0; max-width: 88ch; overflow-wrap: anywhere; }
dd ul { margin: 0; padding: 0; list-style: none; }
code, pre { font: 13.5px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace; }
pre { margin: 0; padding: 10px 14px; overflow-x: auto; border-radius: 8px; background: var(--sheet); }
footer { margin-top: 56px; padding-top: 14px; border-top: 1px solid var(--line); color: var(--muted); font-size: 13px; }
@media (max-width: 640px) {
  main { padding: 24px 16px 48px; }
  h2 { margin-top: 40px; }
  .facts { gap: 4px 20px; }
  th, td { padding: 9px 12px; }
  .panel h3 { padding: 12px 12px 2px; }
  tbody th { max-width: 150px; }
  figure { padding: 14px 12px; }
  .gallery tbody th { width: 108px; min-width: 108px; padding: 8px 10px; font-size: 12px; }
  .gallery img, .gallery .none, .gallery .under { width: 104px; }
  .gallery img, .gallery .none { height: 104px; }
  dl { grid-template-columns: minmax(0, 1fr); gap: 2px; }
  dd { margin-bottom: 14px; }
}
@media print { .panel, .table, .gallery { overflow: visible; } figure, tr { break-inside: avoid; } }
"""
