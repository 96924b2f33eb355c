// SPDX-License-Identifier: MIT
// A small unmodified server: node's http module.
'use strict';

const http = require('http');

const body = 'the answer that every server under test gives\n';

http.createServer((request, response) => {
  response.writeHead(200, { 'Content-Length': body.length });
  response.end(body);
}).listen(Number(process.argv[2]), '127.0.0.1');
