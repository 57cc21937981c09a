// Sends one message as the AI SDK's own transport does, reads the answer with its own readers, and prints what they made
// of it: the types of the chunks, and the message that a user interface would show.
//
// node read-ui-message-stream.mjs <node_modules> <package> <api> <token> <chat id> <text>
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [modules, name, api, token, chatId, text] = process.argv.slice(2);
const { version } = JSON.parse(await readFile(join(modules, name, 'package.json'), 'utf8'));
const { DefaultChatTransport, readUIMessageStream } = await import(
  pathToFileURL(join(modules, name, 'dist', 'index.js'))
);

const transport = new DefaultChatTransport({ api, headers: { authorization: `Bearer ${token}` } });
// The transport refuses every chunk that its schema does not accept.
const stream = await transport.sendMessages({
  trigger: 'submit-message',
  chatId,
  messageId: undefined,
  messages: [{ id: 'm1', role: 'user', parts: [{ type: 'text', text }] }],
  abortSignal: undefined,
});

const types = [];
const errors = [];
const watched = stream.pipeThrough(
  new TransformStream({
    transform(chunk, controller) {
      types.push(chunk.type);
      controller.enqueue(chunk);
    },
  }),
);
let message = null;
const told = readUIMessageStream({ stream: watched, onError: (error) => errors.push(String(error?.message ?? error)) });
for await (const state of told) message = state;
console.log(JSON.stringify({ version, types, errors, message }));
