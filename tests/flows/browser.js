// Walks through a list of steps in Chromium and writes what the steps read, a JSON list.
// Usage: node browser.js PUPPETEER CHROMIUM PROFILE < [["open", URL], ["wait", SELECTOR], ...]
"use strict";

const fs = require("fs");

const [puppeteer_, chromium, profile] = process.argv.slice(2);
const LIMIT_MS = 30000;
const MARGIN = 30;

const steps = {
    open: (page, url) => page.goto(url, { waitUntil: "domcontentloaded" }).then(() => null),
    wait: (page, selector) => page.waitForSelector(selector, { visible: true }).then(() => null),
    wait_text: (page, text) => page.waitForFunction((t) => document.body.innerText.includes(t), {}, text).then(() => null),
    wait_gone: (page, selector) => page.waitForSelector(selector, { hidden: true }).then(() => null),
    click: async (page, selector) => {
        await page.waitForSelector(selector, { visible: true });
        await page.click(selector);
        return null;
    },
    click_text: (page, text) => page.locator(`::-p-text(${text})`).click().then(() => null),
    type: async (page, selector, text) => {
        await page.waitForSelector(selector, { visible: true });
        await page.type(selector, text);
        return null;
    },
    press: (page, key) => page.keyboard.press(key).then(() => null),
    read: (page, selector) => page.$eval(selector, (element) => element.innerText ?? element.textContent),
    read_all: (page, selector) => page.$$eval(selector, (elements) => elements.map((element) => element.innerText ?? element.textContent)),
    evaluate: (page, code) => page.evaluate(code),
    size: (page, width, height) => page.setViewport({ width, height }).then(() => null),
    pause: (_page, ms) => new Promise((resolve) => setTimeout(resolve, ms, null)),
    shot: (page, path, selector) =>
        (selector ? page.$(selector).then((element) => element.screenshot({ path })) : page.screenshot({ path })).then(() => null),
    editor: openEditor,
};

// Shows one tab of the editor by its label, nothing over it, the whole of it in view. Gives how many nodes stand there.
async function openEditor(page, url, label) {
    await page.goto(url, { waitUntil: "domcontentloaded" });
    await page.waitForSelector("#red-ui-loading-progress", { hidden: true });
    await page.waitForFunction(() => window.RED?.workspaces?.count?.() > 0);
    await page.waitForSelector("#red-ui-loading-progress", { hidden: true });
    await page.waitForFunction((name) => {
        let found = false;
        RED.nodes.eachWorkspace((tab) => { found ||= tab.label === name; });
        return found;
    }, {}, label);
    return page.evaluate(async (name, margin) => {
        const settled = () => new Promise((resolve) => setTimeout(resolve, 400));
        RED.actions.invoke("core:toggle-palette", false);
        RED.actions.invoke("core:toggle-sidebar", false);
        document.querySelectorAll(".red-ui-notification button, .ui-dialog-titlebar-close").forEach((button) => button.click());
        let id = null;
        RED.nodes.eachWorkspace((tab) => { if (tab.label === name) { id = tab.id; } });
        RED.workspaces.show(id);
        await settled();
        const nodes = RED.nodes.filterNodes({ z: id });
        const boxes = [
            ...nodes.map((n) => [n.x - n.w / 2, n.y - n.h / 2, n.x + n.w / 2, n.y + n.h / 2]),
            ...RED.nodes.groups(id).map((g) => [g.x, g.y, g.x + g.w, g.y + g.h]),
        ];
        const chart = document.querySelector("#red-ui-workspace-chart");
        const left = Math.min(...boxes.map((box) => box[0])), top = Math.min(...boxes.map((box) => box[1]));
        const width = Math.max(...boxes.map((box) => box[2])) - left, height = Math.max(...boxes.map((box) => box[3])) - top;
        RED.actions.invoke("core:zoom-reset");
        await settled();
        const fits = () => (width + 2 * margin) * RED.view.scale() <= chart.clientWidth
            && (height + 2 * margin) * RED.view.scale() <= chart.clientHeight;
        for (let tries = 0; tries < 8 && !fits(); tries += 1) {
            RED.actions.invoke("core:zoom-out");
            await settled();
        }
        chart.scrollLeft = (left - margin) * RED.view.scale();
        chart.scrollTop = (top - margin) * RED.view.scale();
        await settled();
        return nodes.length;
    }, label, MARGIN);
}

async function main() {
    const puppeteer = require(puppeteer_);
    const browser = await puppeteer.launch({
        executablePath: chromium, userDataDir: profile, headless: true,
        args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-proxy-server"],
        defaultViewport: { width: 1440, height: 900 },
    });
    const complaints = [];
    try {
        const page = await browser.newPage();
        page.setDefaultTimeout(LIMIT_MS);
        page.on("pageerror", (error) => complaints.push(String(error)));
        const answers = [];
        for (const [number, [name, ...given]] of JSON.parse(fs.readFileSync(0, "utf8")).entries()) {
            try {
                answers.push((await steps[name](page, ...given)) ?? null);
            } catch (error) {
                const seen = await page.evaluate(() => document.body?.innerText.slice(0, 1000)).catch(() => "");
                throw new Error(`step ${number} ${name} ${JSON.stringify(given)}: ${error}; the page shows: ${seen}`);
            }
        }
        process.stdout.write(JSON.stringify({ answers, complaints }));
    } finally {
        await browser.close();
    }
}

main().catch((error) => {
    console.error(String(error));
    process.exitCode = 1;
});
