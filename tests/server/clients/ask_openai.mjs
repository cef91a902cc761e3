// Asks the gateway through OpenAI's SDK for Node, and prints what came as JSON.
import OpenAI from "openai";

const [url, apiKey, prompt, suffix] = process.argv.slice(2);
const client = new OpenAI({ baseURL: url, apiKey, maxRetries: 0 });
const model = "codecascade";

const completed = await client.completions.create({ model, prompt, suffix });
let streamed = "";
for await (const chunk of await client.completions.create({ model, prompt, suffix, stream: true })) {
  streamed += chunk.choices[0].text;
}
const messages = [{ role: "user", content: "```python\n" + prompt + "```" }];
const chatted = await client.chat.completions.create({ model, messages });
const refused = await client.completions.create({ model: "gpt-4", prompt }).catch((error) => error.status);
console.log(
  JSON.stringify({
    completed: completed.choices[0].text,
    streamed,
    chatted: chatted.choices[0].message.content,
    refused,
  }),
);
